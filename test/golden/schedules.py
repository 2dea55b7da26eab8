"""Writes schedules.json: the learning rate of every step by PyTorch's schedulers, stepped once after each step (pip install torch).

Warm-up of W steps is LinearLR from 1/W to 1 in W - 1 steps. It multiplies MultiStepLR, whose milestones count from the start of the run,
and comes before CosineAnnealingLR, which anneals over the rest. OneCycleLR rises by itself: in 30 % of the run, or in the warm-up's steps.
"""

import math

import golden_json
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
)


def scheduler(sgd, name, learningRate, warmupEpochs, milestones, factor, power, stepsPerEpoch, totalSteps):
    steps_of = lambda epochs: math.ceil(epochs * stepsPerEpoch)
    warmup_steps = steps_of(warmupEpochs)
    if name == "one-cycle":
        pct_start = warmup_steps / totalSteps if warmup_steps else 0.3
        return OneCycleLR(sgd, learningRate, totalSteps, pct_start=pct_start, cycle_momentum=False)
    warmup = LinearLR(sgd, 1 / warmup_steps, total_iters=warmup_steps - 1) if warmup_steps else None
    if name == "constant":
        return warmup or ConstantLR(sgd, factor=1)
    if name == "multi-step":
        main = MultiStepLR(sgd, [steps_of(epochs) for epochs in milestones], factor)
        return ChainedScheduler([warmup, main]) if warmup else main
    rest = totalSteps - warmup_steps
    main = PolynomialLR(sgd, rest, power) if name == "polynomial" else CosineAnnealingLR(sgd, rest)
    return SequentialLR(sgd, [warmup, main], [warmup_steps]) if warmup else main


def learning_rates(case):
    sgd = SGD([torch.nn.Parameter(torch.zeros(1))], lr=case["learningRate"])
    schedule = scheduler(sgd, **case)
    rates = []
    for step in range(case["totalSteps"]):
        rates.append(sgd.param_groups[0]["lr"])
        sgd.step()
        if step + 1 < case["totalSteps"]:
            schedule.step()
    return rates


def case(name, warmupEpochs=0, stepsPerEpoch=4, totalSteps=24, milestones=(), factor=0.1, power=1, learningRate=0.1):
    return locals()


cases = [
    case("constant"),
    case("constant", warmupEpochs=2.5),
    case("multi-step", milestones=[2, 4]),
    case("multi-step", milestones=[2, 4, 4.3], factor=0.2, stepsPerEpoch=125 / 32, learningRate=0.3),
    case("multi-step", milestones=[1, 3, 5], warmupEpochs=2),
    case("cosine"),
    case("cosine", warmupEpochs=1, stepsPerEpoch=125 / 32, totalSteps=40, learningRate=0.4),
    case("one-cycle"),
    case("one-cycle", totalSteps=20, learningRate=0.3),
    case("one-cycle", warmupEpochs=2, totalSteps=31),
    case("polynomial"),
    case("polynomial", warmupEpochs=1.5, power=2),
]
golden = [
    {
        "schedule": {key: c[key] for key in ["name", "learningRate", "warmupEpochs", "milestones", "factor", "power"]},
        "stepsPerEpoch": c["stepsPerEpoch"],
        "totalSteps": c["totalSteps"],
        "learningRates": learning_rates(c),
    }
    for c in cases
]
golden_json.write(__file__, [torch], golden)
