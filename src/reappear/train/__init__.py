"""What all trainings share; a method (`reappear.methods`) is a `Task` that is trained by `loop.train`.

task.py         Task and Phase: what a method writes
loop.py         the loop: steps, skipped steps, validation, checkpoints, signals
settings.py     what can be set, in groups
datasets.py     step → batch (batch.py), by a sampler (samplers.py) and an augmentation (views.py, image_augment.py)
loader.py       batches of coming steps, made in worker processes
optimizer.py    optimiser and its schedule (schedule.py), clipping
teacher.py      the moving average; batch_norm.py: whose statistics are kept
parallel.py     several processes, started by torchrun
checkpoint.py   states on disk; selection.py: the best weights; metrics_log.py: metrics.jsonl and trackers
"""
