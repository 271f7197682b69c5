"""Train a recipe's fusion with several seeds and on several folds; mean and spread.

ray job submit --working-dir . -- VENV/bin/python jobs/repeat.py --recipe FILE --out /shared/run
"""

from erray.cli.job import run_job

if __name__ == "__main__":
    run_job("repeat")
