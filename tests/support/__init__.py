"""Helpers that tests of several folders share.

    cli.py              commands of `supersnn` run in this process
    driver.py           `supersnn sweep` as a process of its own, for tests on Ray
    plugins.py          packages of one's own, each under a name of its own
    records.py          a journal's events as plain JSON; metrics without times
    servers.py          ports, and programs that serve until the end of a block
    invariants.py       what holds of every finished sweep; `python -m tests.support.invariants STORE SWEEP`
    kernel_contract.py  what holds of every kernel of the spiking loop

Imported as ``from tests.support.records import events``.
"""
