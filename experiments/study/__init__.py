"""A study on disk: what it holds, what may join it, and its tables.

outputs/STUDY/members.csv, layers.csv, epochs.csv    all members together
outputs/STUDY/flips.csv                  only of members that were asked for it (measure.flips)
outputs/STUDY/modes.csv                  statements about train() and eval(), see experiments/modes
outputs/STUDY/environment.json           where and by which command members were last added
outputs/STUDY/jobs/PART/                 a part: its own tables, config.yaml, environment.json
outputs/STUDY/jobs/PART/done.json        its record: members, data, version of the numbers, checksums of its tables
outputs/STUDY/jobs/PART/failed.json      the same of a part some of whose members did not finish
outputs/STUDY/jobs/PART/errors.txt       tracebacks of these members
outputs/STUDY/.work/PART/new/            a part that is not whole yet
outputs/STUDY/.work/PART/checkpoints/    rows of its chunks that are measured, and where training of the others
                                         stands (recipe.checkpoint_every)

part       one part on disk;  inventory  which members there are, and which are missing
admission  what may join;  versions, environment  by what it was made
tables, rows, merge  from a member's numbers to the study's tables;  summary  what a command prints of them
locks, files  one process at a time, files whole or not at all
earlier    studies of an earlier layout;  __main__  a command of its own, which drops members
"""
