"""`python -m told worker …` is `hardparts worker …`, and prints first which code this process runs."""

import agents
import pipeline
import tables
from pipeline.cli import main

if __name__ == "__main__":
    print("code", *(package.__path__[0] for package in (pipeline, agents, tables)), flush=True)
    main()
