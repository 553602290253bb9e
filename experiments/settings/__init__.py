"""What a user types, checked: from a command line to typed jobs.

flags      the flags of a command line
plan       its jobs, composed by Hydra and checked
config     one job: the sections of its configuration as frozen dataclasses
recipe     the section `recipe`;  logger  the section `logger`;  device  where to compute
options    which keys and choices there are, and the line that answers all others;  help  `--help`
search_path  conf, and folders of the user's own, as Hydra reads them
study_name  the name of a study that nobody named
keywords   keyword arguments of a call from Python as overrides
configurations  what `--cfg job` shows;  completion  what a shell completes
launchers  Hydra's launchers and the cores that each gives a job
shards     a job's members cut into several jobs
"""
