"""Find faces and compute the features of a recipe's clips.

ray job submit --working-dir . -- VENV/bin/python jobs/extract.py --recipe FILE --out /shared/run
"""

from erray.cli.job import run_job

if __name__ == "__main__":
    run_job("extract")
