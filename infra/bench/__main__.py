"""`python -m infra.bench [--quick] [--package FOLDER]`: JSON lines on standard output, everything else on standard error."""
import argparse
import contextlib
import os
import pathlib
import signal
import sys
import tempfile
import time

from infra.bench import cold, latency, paths, town
from infra.bench.child import Child
from infra.bench.lines import Lines
from infra.local.aws import EmbeddedAws, use

FULL = {"people": 40, "rounds": 8, "profiles": 400, "starts": 7}
LONGEST = {"times": 90, "everything": 210}      # seconds after which no further round begins: a busy machine gets fewer samples
QUICK = {"people": 8, "rounds": 1, "profiles": 10, "starts": 1}


def main(arguments=None):
    """Every measurement has been said; the processes and folders of the bench are gone, however it ended."""
    parser = argparse.ArgumentParser(prog="python -m infra.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few samples only: whether it works, not how fast")
    parser.add_argument("--package", type=pathlib.Path, help="a package made before, as `make package` leaves it")
    given = parser.parse_args(arguments)
    lines, sys.stdout = Lines(sys.stdout), sys.stderr
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # what we started must not outlive us
    with contextlib.ExitStack() as parts:
        folder = pathlib.Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="rolekeep-bench-")))
        log = parts.enter_context(open(folder / "bench.log", "a+", buffering=1))
        try:
            _measure(lines, parts, folder, log, QUICK if given.quick else FULL, given.package)
        except BaseException:
            _show_end(log)
            raise
    return 0


def _measure(lines, parts, folder, log, amounts, made):
    began = time.monotonic()

    def now(what):
        print(f"{time.monotonic() - began:6.1f} s  {what}", file=sys.stderr, flush=True)

    shown = latency.Shown()
    now("starting the embedded AWS and the sandboxes")
    aws = EmbeddedAws().start()
    parts.callback(aws.stop)
    fakes = Child("infra.bench.fakes", {}, log=log.name, heard=shown.heard)
    parts.callback(fakes.stop)
    use(aws.endpoint, "local")
    os.environ.update(town.settings(**fakes.ready))
    parts.enter_context(contextlib.redirect_stdout(log))    # the product logs to standard output, as Lambda wants it
    here = town.Town(aws, **fakes.ready)
    now("round trips and request units of each path")
    paths.measure(here, lines)
    now("webhook to role, profile")
    product = Child("infra.bench.product", {}, log=log.name)
    parts.callback(product.stop)
    latency.measure(here, product, shown, lines, people=amounts["people"], rounds=amounts["rounds"], profiles=amounts["profiles"],
                    until=began + LONGEST["times"])
    now("package and cold starts")
    cold.measure(here, lines, folder=folder, rounds=amounts["starts"], until=began + LONGEST["everything"], made=made, log=log)
    now("done")


def _show_end(log, most=30):
    """What was logged last stands on standard error: the log goes with the folder."""
    log.seek(0)
    print("The end of the log:\n  " + "\n  ".join(log.read().splitlines()[-most:]), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
