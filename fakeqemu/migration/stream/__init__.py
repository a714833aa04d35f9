# SPDX-License-Identifier: MIT
"""The bytes of a migration. All integers are big endian; a counted string is a length byte and text.

Main channel

    be32 51 45 56 4d "QEVM", be32 version 3
    07  be32 length, machine type                         configuration, with subsections
          05 configuration/capabilities                   be32 count, counted strings: x-ignore-shared, mapped-ram
          05 configuration/uuid                           16 bytes, with validate-uuid
    01  be32 id, name, be32 instance, be32 version, body  START
    02  be32 id, body                                     PART
    03  be32 id, body                                     END
    04  be32 id, name, be32 instance, be32 version, body  FULL
    7e  be32 id                                           footer, after each body
    08  be16 command, be16 length, payload                command
    00                                                    EOF
    06  be32 length, JSON                                 what the FULL sections were made of

    section      these records              return_path  the way back: be16 type, be16 length, data
    ram_page     bodies of "ram"            vmstate      bodies of described devices: the walk over their fields,
    vmdesc       the JSON                                with their kinds (vmstate_fields) and lists (vmstate_lists)
    qemu_file    integers and strings over a channel or over bytes

Body of "ram", version 4: words of be64, low 12 bits flags, the rest the offset in a block

    004 MEM_SIZE  total; then for each block: name, be64 length, [be64 page size], [be64 address with x-ignore-shared]
    002 ZERO      [name] 00
    008 PAGE      [name] 4096 bytes
    020 CONTINUE  beside ZERO and PAGE: no name, the block of the record before
    010 EOS       the end of the body
    040 XBZRLE    [name] 01, be16 length, delta           200 MULTIFD_FLUSH   (read, not written)

Body of a described device: its fields in order, then 05 name be32 version ... for each subsection that is needed.

Everything here is pure: no event loop, socket or clock. Writing is plain, reading is awaited, and `run_sync` drives a
loader over bytes.

QEMU: docs/devel/migration/, migration/savevm.c, ram.c, vmstate.c
"""
