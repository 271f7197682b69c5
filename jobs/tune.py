"""Search a recipe's space, train and register the best.

ray job submit --working-dir . -- VENV/bin/python jobs/tune.py --recipe FILE --out /shared/run
"""

from erray.cli.job import run_job

if __name__ == "__main__":
    run_job("tune")
