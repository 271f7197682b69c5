"""Train a recipe's models and register the best.

ray job submit --working-dir . -- VENV/bin/python jobs/train.py --recipe FILE --out /shared/run
"""

from erray.cli.job import run_job

if __name__ == "__main__":
    run_job("train")
