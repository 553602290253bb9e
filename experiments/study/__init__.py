"""A study on disk: what is finished, what may join it, and its tables.

outputs/STUDY/members.csv, layers.csv, epochs.csv    all jobs together
outputs/STUDY/flips.csv                  only of jobs that were asked for it (measure.flips)
outputs/STUDY/modes.csv                  statements about train() and eval(), see experiments/modes
outputs/STUDY/environment.json           where and by which command jobs were last added
outputs/STUDY/jobs/JOB/                  a job's own tables, config.yaml, environment.json
outputs/STUDY/jobs/JOB/checkpoints/      where training stands, while it goes on (recipe.checkpoint_every)
outputs/STUDY/jobs/JOB/done.json         checksums of the job's tables; only a finished job has it
outputs/STUDY/jobs/JOB/failed.json       the same of a job some of whose members failed
outputs/STUDY/jobs/JOB/errors.txt        tracebacks of these members
outputs/STUDY/jobs/JOB/.new/             its new tables, while they are written
outputs/STUDY/jobs/JOB-shard2of4/        a job that was cut has a folder for each of its shards
"""
