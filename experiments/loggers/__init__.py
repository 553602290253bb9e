"""Logging to Weights & Biases: an export of the tables, made when a job has written its own.

settings    `logger.*` of the configuration
login       whether W&B would let us in
live        what a running study does: show training, export when a job is finished, and once more at the end
chunk_log   what a chunk says of its training; watch: the process that shows it
export      one code path for the live logger and for `python -m scripts.export_wandb`
records     from rows of the tables to what a run of W&B holds; study_record: the study as a whole
offline     writes runs to STUDY/wandb, without network or account
upload      sends them to a server
"""
