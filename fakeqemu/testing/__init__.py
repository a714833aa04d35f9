# SPDX-License-Identifier: MIT
"""For those who test management tools: emulators as pytest fixtures.

Reading order: `emulator` (one emulator and a connected client), `pair` (two of them, ready to migrate), `pytest_plugin`
(the fixtures), `contract` (what every Host, Channel and Clock has to do).

    async def test_my_tool(fakeqemu):
        vm = await fakeqemu("-machine", "q35", "-nodefaults")
        assert (await vm.execute("query-status"))["status"] == "running"
"""
