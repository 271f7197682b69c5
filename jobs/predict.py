"""Predict a split with a registered model.

ray job submit --working-dir . -- VENV/bin/python jobs/predict.py --recipe FILE --out /shared/run
"""

from erray.cli.job import run_job

if __name__ == "__main__":
    run_job("predict")
