"""MLflow as a view of a sweep's journal: every run, metric and tag can be built again from the events.

    tree.py      events → runs and what each has yet to be told; pure, knows no MLflow
    client.py    the door to MLflow: connects, finds or creates runs, says one change
    tracker.py   the thread that follows the journal, keeps its place, outlives an outage
    registry.py  a winner's export folder as a version of a registered model
    pyfunc_model.py  the code of that model
    server.py    where a store's MLflow is, its user interface, addresses in it

**Schema.** Experiment: the sweep's name. Runs, by the tag `supersnn.level`:

| level | name | parent | status |
| --- | --- | --- | --- |
| `sweep` | `digits` | | FINISHED, FAILED or KILLED as the sweep closes |
| `arm` | `heterogeneous` | sweep | as the sweep |
| `trial` | `heterogeneous #14 vgg8→resnet8` | arm | FINISHED (also when stopped early), FAILED, KILLED (interrupted) |
| `verification` | `heterogeneous verify seed 1003` | arm | FINISHED |

Tags: `supersnn.key` (unique: sweep @ journal / arm / trial / seed), `supersnn.journal`, `supersnn.level`, `.arm`, `.pairing`
(none, homogeneous, heterogeneous), `.teacher`, `.teacher_family`, `.teacher_digest`, `.teacher_accuracy`,
`.teacher_parameters`, `.student`, `.student_family`, `.split` (fingerprint of the cut), `.seed`, `.code` (version), `.sampled`
(keys that were searched), `.end` (finished, stopped, failed:REASON), `.traceback` (path), `.winner`, `.export` (path).

Params: the flat dotted keys of the configuration, as JSON scalars; an arm's are its own section of the sweep file.

Metrics of trials, step = epoch: those of the epoch reports (`val/accuracy`, `loss/relation`, `spikes/rate`, …). Of
verifications, step = the last epoch: the same and `test/accuracy`. Of arms and of the sweep, step = how many
trials have ended: `trials/started`, `trials/finished`, `trials/stopped`, `trials/failed`, `val/best` (last epoch's value,
finished trials only); step = how many seeds are verified: `test/mean`, `test/sd` (sample), `test/seeds`, and on arms the means
of `spikes/rate`, `ops/synaptic`, `energy/nj`. The sweep's `test/…` are those of the arm with the best validation value
(`supersnn.best_arm`). Of the sweep, step 0: `teacher/NAME/{val_accuracy,parameters,seconds}`.

Dataset input: name and split fingerprint. Artifacts of the sweep's run: `config.yaml`, `environment.json`.
Registered model: the sweep's name; a version an exported winner, tagged `supersnn.test_mean`; alias `champion`.
"""
