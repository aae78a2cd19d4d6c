# SPDX-License-Identifier: Apache-2.0
"""The `rmpe` command: `main`, a `*_command` module for each subcommand, and what they share.

A command has `add_parser(subparsers)` and `run(args) -> exit code`; `add_parser` sets `run` as
the parser's default. It imports only the standard library at its top, so that `rmpe --help` is
quick and `rmpe doctor` runs where a library is missing.
"""
