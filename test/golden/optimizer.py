"""Writes optimizer.json: ten steps of PyTorch's SGD in float64 with a learning rate that changes (pip install numpy torch).

With velocity v, 0 at first: g += weightDecay * p; v = momentum * v + g; p -= rate * (v, or g + momentum * v for Nesterov). The rate is not
part of v, unlike in Keras, so a change of the rate acts at once.
"""

import golden_json
import numpy as np
import torch

STEPS, SIZE = 10, 5
RATES = [0.1, 0.1, 0.2, 0.3, 0.3, 0.05, 0.05, 0.01, 1.0, 0.1]


def steps(parameter, gradients, **options):
    parameter = torch.nn.Parameter(torch.from_numpy(parameter.copy()))
    sgd = torch.optim.SGD([parameter], lr=1, **options)
    history = []
    for rate, gradient in zip(RATES, gradients):
        sgd.param_groups[0]["lr"] = rate
        parameter.grad = torch.from_numpy(gradient.copy())
        sgd.step()
        history.append(parameter.detach().numpy().copy())
    return np.array(history)


def case(momentum, nesterov, weightDecay):
    random = np.random.default_rng(0)
    parameter = random.normal(size=SIZE).round(3)
    gradients = random.normal(size=(STEPS, SIZE)).round(3)
    return {
        "momentum": momentum,
        "nesterov": nesterov,
        "weightDecay": weightDecay,
        "learningRates": RATES,
        "parameter": parameter,
        "gradients": gradients,
        "parameters": steps(parameter, gradients, momentum=momentum, nesterov=nesterov, weight_decay=weightDecay),
    }


cases = [case(0.0, False, 0.0), case(0.0, False, 0.1), case(0.9, False, 0.0), case(0.9, False, 0.05), case(0.9, True, 0.0), case(0.8, True, 0.05)]
golden_json.write(__file__, [np, torch], cases)
