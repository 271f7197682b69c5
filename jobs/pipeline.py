"""Run every step of a recipe: extract, train, tune, register, predict, report.

ray job submit --working-dir . -- VENV/bin/python jobs/pipeline.py --recipe FILE --out /shared/run
"""

from erray.cli.job import run_job

if __name__ == "__main__":
    run_job("pipeline")
