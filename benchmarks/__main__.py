"""Every benchmark one after the other, as Markdown tables on standard output."""

import runpy
import sys

BENCHMARKS = ("audit_run", "client_cost", "canary_scan")


def main() -> None:
    """Run all benchmarks, or those named on the command line."""
    for name in sys.argv[1:] or BENCHMARKS:
        sys.argv = [name]
        print(f"\n## {name}\n", flush=True)
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")


if __name__ == "__main__":
    main()
