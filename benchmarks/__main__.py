"""Every benchmark one after the other, as Markdown tables on standard output.

    python -m benchmarks [NAME ...] [OPTION ...]

Options go to the benchmarks that are named.
"""

import runpy
import sys

BENCHMARKS = (
    "audit_run",
    "client_cost",
    "canary_scan",
    "explore",
    "catalogue",
    "detect_access",
    "detect_leaks",
    "detect_locks",
    "check_linear",
    "check_transactions",
    "check_weak",
    "isolation_matrix",
    "battery",
    "app_numbers",
    "app_realtime",
    "fault_proxy",
    "app_monitoring",
    "app_access",
    "app_llm",
    "app_control",
    "app_keys",
)


def main() -> None:
    """Run all benchmarks, or those named on the command line."""
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    options = [word for word in sys.argv[1:] if word.startswith("-")]
    for name in names or BENCHMARKS:
        sys.argv = [name, *options]
        print(f"\n## {name}\n", flush=True)
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")


if __name__ == "__main__":
    main()
