"""The sweep file that `supersnn init` writes: complete, commented, and valid without changes."""

from pathlib import Path

from supersnn.errors import UserError

TEMPLATE = """\
# A sweep: students, teachers, search parameters. `supersnn sweep FILE --dry-run` shows its plan.
name: my-sweep
dataset: {name: digits, validation: 0.15, augment: {crop: 1}}   # `supersnn data list` shows the names
student: {architecture: resnet8, time_steps: 2}
teacher: {epochs: 12}
train: {epochs: 12, batch_size: 64}

arms:                                   # compared at equal budget
  direct: {}                            # no teacher
  homogeneous: {teachers: [resnet8]}    # a teacher of the student's family
  heterogeneous: {teachers: [vgg8]}     # teachers of other families; several are searched

space:                                  # any key of a training; `default` is the default range
  neuron.threshold: default
  neuron.decay: {uniform: [0.1, 0.95]}
  optimizer.lr: default
  loss.relation.weight: default

# replicates: 3                         # independent searches of every arm: a verdict about arms needs several
# datasets: [digits, fashion-mnist]     # instead of one name under `dataset`: all arms on each
search: {trials: 16, sampler: tpe, scheduler: asha}     # trials for each search
verify: {seeds: 10}                                     # fresh seeds for each winner
resources: {cpus: 1, gpus: auto}                        # for each trial; gpus: 0, a fraction, or several
"""


def write(path: Path) -> None:
    """Write the template to a new file.

    Raises:
        UserError: the file exists already, or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except FileExistsError as error:
        raise UserError(f"{path}: exists already; name another file") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
