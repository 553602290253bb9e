"""What a user types, checked: from a command line to typed jobs.

flags      the flags of a command line
plan       its jobs, composed by Hydra and checked
config     one job: the sections of its configuration as frozen dataclasses
recipe     the section `recipe`;  logger  the section `logger`;  device  where to compute
options    which keys and choices there are, and the line that answers all others;  help  `--help`
launchers  Hydra's launchers and the cores that each gives a job
shards     a job's members cut into several jobs
"""
