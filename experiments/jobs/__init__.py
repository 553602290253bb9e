"""Running jobs: members in chunks, over all cores, with what survives a kill.

launch      jobs in this process, or through a launcher of Hydra's
job         one job from its members to its tables
job_data    its data set, checked before anything is trained
chunk       members side by side, from initial weights to rows;  chunk_plan  which members those are
workers     chunks on a pool of processes;  memory  how these hold it;  progress  what the terminal shows
checkpoint  where training stands, on disk;  measured  the rows of chunks that are measured
"""
