"""Sends what happens in a sweep to a web hook as JSON: python webhook.py STORE SWEEP URL, also while it runs."""

import json
import sys
import urllib.request

import tune
from supersnn.records.events import AnyEvent, SweepClosed, TrialEnded, WinnerVerified

SENT = (TrialEnded, WinnerVerified, SweepClosed)


def text_of(event: AnyEvent) -> str:
    """Return an event as a line for people."""
    if isinstance(event, TrialEnded):
        value = "" if event.value is None else f", validation {event.value:.1%}"
        return f"{event.arm} #{event.trial}: {event.end}{value}"
    if isinstance(event, WinnerVerified):
        return f"{event.arm} seed {event.seed}: test {event.metrics.get('test/accuracy') or 0:.1%}"
    return event.event


def send(store: str, sweep: str, url: str) -> None:
    """Post each ended trial, each verification and the end of the driver."""
    for event in tune.follow(store, sweep, wait=60):
        if isinstance(event, SENT):
            body = {"text": f"{sweep}: {text_of(event)}", "event": event.model_dump(mode="json", by_alias=True)}
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(url, json.dumps(body).encode(), headers)
            urllib.request.urlopen(request, timeout=10).close()


if __name__ == "__main__":
    send(*sys.argv[1:4])
