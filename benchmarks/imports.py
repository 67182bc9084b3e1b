"""What importing every operator costs a DAG file, over `import airflow.sdk` alone: `python -m benchmarks.imports`.

Both are measured in fresh processes, in turn and in one run, so that a busy machine slows both alike.
"""

import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.report import Figure, report

ROUNDS = 7
BAR_PCT = 5.0
OPERATORS = Path(__file__).parents[1] / "operators" / "taxiway" / "operators"

MEASURE = """
import sys, time
{before}
began = time.process_time()
{statement}
print(time.process_time() - began)
"""


def operator_imports() -> str:
    """Return the statements that import the module of every operator, as a DAG file would."""
    return "; ".join(f"import taxiway.operators.{path.stem}" for path in sorted(OPERATORS.glob("[!_]*.py")))


def cpu_s(statement: str, *, before: str = "") -> float:
    """Return the CPU seconds of statements in a fresh process, of its main thread and all others."""
    code = MEASURE.format(before=before, statement=statement)
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    )


def main() -> int:
    """Measure in turn, and return 1 where the operators cost more than the bar."""
    cpu_s("import airflow.sdk; " + operator_imports())  # the first run reads files that no cache holds yet
    base, added = [], []
    for _ in range(ROUNDS):
        base.append(cpu_s("import airflow.sdk"))
        added.append(cpu_s(operator_imports(), before="import airflow.sdk"))
    base_s, added_s = statistics.median(base), statistics.median(added)
    figures = [
        Figure(name="import airflow.sdk, CPU s", value=base_s),
        Figure(name="every operator on top, CPU s", value=added_s),
        Figure(name="operators over airflow.sdk, %", value=100 * added_s / base_s, bar=BAR_PCT),
    ]
    return report("imports", figures)


if __name__ == "__main__":
    sys.exit(main())
