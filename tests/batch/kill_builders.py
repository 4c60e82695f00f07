"""A builder that is killed once per site, at a moment counted in what the build does, and that tells what was finished by then."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

from cubekit.errors import CubekitError
from cubekit.pipeline import build_cube
from cubekit.store import content_digest


def state(kind, name):
    return Path(os.environ["CUBEKIT_TEST_STATE"]) / f"{kind}-{name}.json"


class Moments:
    """Counts the steps of a build: every read that is noted, every file kept, every object written, the commit, the journal's end."""

    def __init__(self):
        from cubekit.read import Journal, _bytes
        from cubekit.read._href import asset_key
        from cubekit.store._local import LocalAttempt
        from cubekit.store._remote import RemoteAttempt

        self.count, self.finished, self._reached, self._at = 0, [], threading.Event(), None
        self._undo = []
        self._watch(Journal, "_know", lambda _, notes, at: [note["name"] for note in notes])
        self._watch(_bytes, "_keep", lambda href, *rest: [asset_key(href)])
        self._watch(Journal, "drop")
        for attempt in (LocalAttempt, RemoteAttempt):
            self._watch(attempt, "put")
            self._watch(attempt, "commit")

    def _watch(self, owner, name, finished=lambda *_: [None]):
        inner = getattr(owner, name)

        def step(*arguments):
            result = inner(*arguments)
            for done in finished(*arguments):
                if done is not None:
                    self.finished.append(done)
                self.count += 1
                if self.count == self._at:
                    self._reached.set()
            return result

        setattr(owner, name, step)
        self._undo.append((owner, name, inner))

    def end(self):
        for owner, name, inner in reversed(self._undo):
            setattr(owner, name, inner)

    def kill_at(self, step, delay, site, parent):
        def kill():
            self._reached.wait()
            time.sleep(delay)
            state("killed", site).write_text(json.dumps({"finished": list(self.finished), "at": time.perf_counter()}))
            if parent:
                os.kill(os.getppid(), signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

        self._at = step
        threading.Thread(target=kill, daemon=True).start()


def visible(out):
    """What stands at a final name: nothing, a whole cube (its digest), or damage."""
    try:
        stated = content_digest(out)
        return stated if content_digest(out, recompute=True) == stated else "damaged"
    except CubekitError as error:
        return type(error).__name__


def build(recipe, site, out, *, overwrite, session):
    """As `build_cube`; killed at the step that ``kill-<site>.json`` names, if this is the first time."""
    if state("killed", site.id).exists():
        state("seen", site.id).write_text(json.dumps(visible(out)))
        return build_cube(recipe, site, out, overwrite=overwrite, session=session)
    moments = Moments()
    try:
        if state("kill", site.id).exists():
            moments.kill_at(site=site.id, **json.loads(state("kill", site.id).read_text()))
        result = build_cube(recipe, site, out, overwrite=overwrite, session=session)
    finally:
        moments.end()
    state("steps", site.id).write_text(str(moments.count))
    return result


def segv(recipe, site, out, *, overwrite, session):
    """As `build_cube`, but for ``s1``, whose first try takes a dask worker along, and for ``poison``, which always crashes."""
    if site.id == "s1" and not state("segv", site.id).exists():
        state("segv", site.id).touch()
        os.kill(os.getppid(), signal.SIGSEGV)
        os.kill(os.getpid(), signal.SIGSEGV)
    if site.id == "poison":
        os.kill(os.getpid(), signal.SIGSEGV)
    return build_cube(recipe, site, out, overwrite=overwrite, session=session)
