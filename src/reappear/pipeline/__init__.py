"""The steps. Each is one function, in a file or folder of its name, from finished folders to one finished folder.

record.py      `run_step`, by which every step runs: what a folder was made of, and how a killed call goes on
workspace.py   where the folders are
settings.py    settings classes from recipes, options and records
contents.py    what a step's inputs are known by
run.py         the steps one after another, in rounds
"""
