"""Train a recipe with every combination of some values, and compare the runs: docs/SWEEPS.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Works in a checkout with the requirements installed, without installing the package.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qdsft.errors import Interrupted, UserError
from sweeps.sweep import AGAIN, PICTURE, RESULTS, sweep
from sweeps.sweep_results import table


def main(arguments: list[str] | None = None) -> int:
    """Run the sweep. Return 0, 1 for a user error or a failed run, or 128 plus the number of a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, such as recipes/tiny/full.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value,value", help="one value applies to all runs")
    parser.add_argument("--metric", default="loss", help="metric that ranks the runs (default: loss)")
    parser.add_argument("--evaluate", action="store_true", help="run qdsft evaluate on each run, for the other metrics")
    parser.add_argument("--name", help="folder in outputs/sweeps (default: <model>-<method>)")
    options = parser.parse_intermixed_args(arguments)
    try:
        results = sweep(
            options.recipe, options.overrides, name=options.name, metric=options.metric, evaluate=options.evaluate
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(error, file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(f"interrupted; {AGAIN}", file=sys.stderr)
        return 130
    print(table(results), end="")
    folder = Path(results["runs"][0]["run_dir"]).parent
    print(f"best: {results['best'] or 'none'}; written to {folder / RESULTS} and {folder / PICTURE}", file=sys.stderr)
    unfinished = [run for run in results["runs"] if run["state"] != "finished"]
    if unfinished:
        print(f"error: {len(unfinished)} of {len(results['runs'])} runs did not finish; {AGAIN}", file=sys.stderr)
    return 1 if unfinished else 0


if __name__ == "__main__":
    sys.exit(main())
