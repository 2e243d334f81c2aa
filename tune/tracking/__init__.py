"""MLflow as a view of a sweep's journal: every run, metric and tag can be built again from the events.

    changes.py       what passes between them: runs, and what each has yet to be told
    tree.py          events → changes; pure, knows no MLflow
    standings.py     what the arms have come to: counts, best value, verified means
    client.py        the door to MLflow: connects, finds or creates runs, says one change
    tracker.py       the thread that follows the journal, keeps its place, outlives an outage
    registry.py      a winner's export folder as a version of a registered model
    pyfunc_model.py  the code of that model
    server.py        where a store's MLflow is, its user interface, addresses in it

**Schema.** Experiment: the sweep's name. Runs, by the tag `supersnn.level`:

| level | name | parent | status |
| --- | --- | --- | --- |
| `sweep` | `digits` | | FINISHED, FAILED or KILLED as the sweep closes |
| `arm` | `heterogeneous` | sweep | as the sweep |
| `trial` | `heterogeneous #14 vgg8→resnet8` | arm | FINISHED (also when stopped early), FAILED, KILLED (interrupted) |
| `verification` | `heterogeneous verify seed 1003` | arm | FINISHED |

Tags, each after `supersnn.`: `key` (unique: sweep @ journal / arm / trial / verify / seed), `journal`, `level`, `arm`,
`pairing` (none, homogeneous, heterogeneous), `teacher`, `teacher_family`, `teacher_digest`, `teacher_accuracy`,
`teacher_parameters`, `student`, `student_family`, `split` (fingerprint of the cut), `seed`, `code` (version),
`sampled` (the keys that were searched), `end` (finished, stopped, failed:REASON), `traceback` (path),
`winner`, `export` (path), `test_opened` (when a verification opened the test images, UTC). An arm's have every
distinct value of its trials'.

Params: the flat dotted keys of the configuration, texts as they are, anything else as JSON. An arm's are its own
section of the sweep file; the sweep's are all but `search`, `verify` and `resources`, which a continued one may change.

Metrics of a trial, step = epoch: those of the epoch reports (`val/accuracy`, `loss/relation`, `spikes/rate`, …). Of
a verification, step = the last epoch: the same, and `test/accuracy`. Of an arm and of the sweep, step = how many
trials have ended: `trials/started`, `trials/finished`, `trials/stopped`, `trials/failed`, and `val/best`, the best
last value of the finished trials; step = how many seeds are verified: `test/mean`, `test/sd` (of the sample),
`test/seeds`, and on arms the means of `spikes/rate`, `ops/synaptic`, `energy/nj`. The sweep's `test/…` are those of
the arm with the best mean validation accuracy of fresh seeds (tag `best_arm`). Of the sweep, too:
`teacher/NAME/{val_accuracy,parameters,seconds}`, step 0, and `system/…` where MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
asks for them.

Dataset input: its name and the split's fingerprint. Artifacts of the sweep's run: `config.yaml`, `environment.json`.
Registered model: the sweep's name; a version an exported winner, tagged `supersnn.test_mean`; alias `champion`.
"""
