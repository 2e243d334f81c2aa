"""MLflow as a view of a sweep's state: every run, metric and tag can be rebuilt from the journal's events.

    changes.py       runs, and the change that each has yet to be sent
    runs.py          key, name, tags and parent of each run, from the state
    standings.py     verified means of an arm, from the state
    tree.py          events → state → changes; pure, does not import MLflow
    client.py        the client of MLflow: connects, finds or creates runs, sends changes
    tracker.py       the thread that follows the journal: saves its position, survives outages
    database.py      the store's own database: repaired where it was moved, upgraded where its schema is old
    registry.py      a winner's export folder as a version of a registered model
    pyfunc_model.py  the code of that model
    server.py        address of a store's MLflow, its user interface, URLs in it

**Schema.** Experiment: the sweep's name. Runs, by the tag `supersnn.level`:

| level | name | parent | status |
| --- | --- | --- | --- |
| `sweep` | `digits` | | FINISHED, FAILED or KILLED as the sweep closes |
| `dataset` | `fashion` | sweep | as the sweep; only with several data sets |
| `arm` | `heterogeneous` | sweep, or its data set | as the sweep |
| `replicate` | `heterogeneous replicate 2` | arm | as the sweep; only with several replicates |
| `trial` | `heterogeneous #14 vgg8→resnet8` | arm or replicate | FINISHED (also when stopped early), FAILED, KILLED |
| `verification` | `heterogeneous verify seed 1003` | arm or replicate | FINISHED, FAILED |

A trial that was interrupted is KILLED. Runs of a sweep that is given more data sets or replicates move below these.

Tags, each after `supersnn.`: `key` (unique: sweep @ journal / search / trial / verify / seed), `journal`, `level`,
`dataset` (label or name), `arm`, `replicate` (from 0; of a replicate and the runs below it),
`pairing` (none, homogeneous, heterogeneous), `teacher`, `teacher_family`, `teacher_digest`, `teacher_accuracy`,
`teacher_parameters`, `student`, `student_family`, `split` (its fingerprint), `seed`, `code` (version),
`sampled` (the keys that were searched), `end` (finished, stopped, failed:REASON), `feasible` (yes, no; of trials of a
sweep with `search.constraints`), `traceback` and `export` (paths in the store), `winner`, `test_opened` (when a
verification opened the test images, UTC), `right` (which of them it classified correctly, `supersnn.records.packed`),
`node`, `process`, `gpu`, `gpu_number` and the facts that results on a GPU depend on (of where a trial ran last),
`looks` (of a sweep that adds replicates until the differences are known: its looks, as JSON). An arm's tags list every
distinct value of its trials'.

Params: the flat dotted keys of the configuration, strings as they are, anything else as JSON. An arm's are its
section of the sweep file; the sweep's are all but `search`, `verify`, `resources`, `datasets` and `replicates`,
which a continued sweep may change.

Metrics of a trial, step = epoch: those of the epoch reports (`val/accuracy`, `loss/relation`, `spikes/rate`, …), with
several seeds a trial also their means over the seeds so far (`mean/val/accuracy`, …). Of a verification, step = the
last epoch: the same, and `test/accuracy`. Of an arm and of the sweep, step = number of ended trials: `trials/started`,
`trials/finished`, `trials/stopped`, `trials/failed`, and `val/best`, the validation accuracy of the best trial that
finished within the constraints; step = number of verified seeds: `test/mean`, `test/sd` (of the sample), `test/seeds`,
and on arms the means of `spikes/rate`, `ops/synaptic`, `energy/nj`. With several replicates an arm's `test/mean` and
`test/sd` are those of its winners' means, of which there are `test/replicates`. The sweep's `test/…` are those of the
arm with the best mean validation accuracy of fresh seeds (tag `best_arm`); with several data sets each data set's run
has them instead, and its `val/best`. Of the sweep, too: `teacher/NAME/{val_accuracy,parameters,seconds}`, step 0,
`cost/slot_hours`, `cost/gpu_hours`, the verdicts (`verdict/A-B/{difference,low,high,p,image_se}`, with several data
sets `verdict/DATASET/A-B/…`), and `system/…` where MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING asks for them.

Dataset input: its name and the split's fingerprint. Artifacts of the sweep's run: `config.yaml`, `environment.json`,
`report.html`. Registered model: the sweep's name; one version for each exported winner, tagged `supersnn.val_mean` and
`supersnn.test_mean`; alias `champion`, by validation. With several data sets there is a model for each: SWEEP-DATASET.
"""
