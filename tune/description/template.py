"""The sweep file that `supersnn init` writes: complete, commented, and right as it stands."""

from pathlib import Path

from supersnn.errors import UserError

STARTER = """\
# A sweep: which students, which teachers, which parameters. `supersnn sweep THIS --dry-run` shows what it would do.
name: my-sweep
dataset: {name: digits, validation: 0.15, augment: {crop: 1}}   # `supersnn data list` shows the names
student: {architecture: resnet8, time_steps: 2}
teacher: {epochs: 12}
train: {epochs: 12, batch_size: 64}

arms:                                   # compared at equal budget
  direct: {}                            # no teacher
  homogeneous: {teachers: [resnet8]}    # a teacher of the student's family
  heterogeneous: {teachers: [vgg8]}     # teachers of other families; several are searched

space:                                  # any key of a training; `default` is the usual range
  neuron.threshold: default
  neuron.decay: {uniform: [0.1, 0.95]}
  optimizer.lr: {log: [0.01, 0.3]}
  loss.relation.weight: {log: [1, 1000]}

search: {trials: 16, sampler: tpe, scheduler: asha}     # trials for each arm
verify: {seeds: 10}                                     # fresh seeds for each winner
resources: {cpus: 1, gpus: 0}                           # for each trial; gpus: a fraction, or several
"""


def write(path: Path) -> None:
    """Write the starter to a file that is not there yet.

    Raises:
        UserError: the file is there already, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(STARTER)
    except FileExistsError as error:
        raise UserError(f"{path}: is there already; name another file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
