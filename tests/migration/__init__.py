# SPDX-License-Identifier: MIT
"""What several kinds of migration tests share."""
