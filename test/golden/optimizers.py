"""Writes optimizers.json: ten steps of PyTorch's optimizers in float64 over five parameters (pip install numpy torch).

Parameters in dtrain's layout, [inputs, outputs]: first, a tall and a wide hidden matrix, last, and a vector. PyTorch's Muon computes in
bfloat16; here bfloat16 is taken for float64, so that its algorithm is compared and not its rounding. LARS is SGD over gradients scaled as in
You et al. (arXiv 1708.03888, equation 6). Decoupled decay of SGD: w *= 1 - rate * decay before the step. The averages are those of
torch.optim.swa_utils.AveragedModel.
"""

import golden_json
import numpy as np
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

torch.bfloat16 = torch.float64
STEPS = 10
RATES = [0.1, 0.1, 0.2, 0.3, 0.3, 0.05, 0.05, 0.01, 0.2, 0.1]
SHAPES = [(4, 3), (6, 3), (3,), (3, 5), (5, 2)]
HIDDEN = {1, 3}
EMA = 0.9
BETA2, EPSILON, TRUST = 0.99, 1e-8, 0.02


class Model(torch.nn.Module):
    def __init__(self, values):
        super().__init__()
        self.values = torch.nn.ParameterList([torch.nn.Parameter(torch.from_numpy(v.T.copy())) for v in values])


def optimizers(c, model):
    decays = [0 if p.ndim == 1 and c["exempt"] == "norms-and-biases" else c["weightDecay"] for p in model.values]
    muon = c["name"] == "muon"
    groups = lambda chosen: [{"params": [p], "weight_decay": d} for i, (p, d) in enumerate(zip(model.values, decays)) if i in chosen]
    everything = set(range(len(SHAPES)))
    if c["name"] == "adamw":
        return [torch.optim.AdamW(groups(everything), lr=1, betas=(c["momentum"], BETA2), eps=EPSILON)], decays
    if muon:
        return [torch.optim.Muon(groups(HIDDEN), lr=1, momentum=c["momentum"], nesterov=c["nesterov"]),
                torch.optim.SGD([model.values[i] for i in everything - HIDDEN], lr=1, momentum=c["momentum"], nesterov=c["nesterov"])], decays
    return [torch.optim.SGD(model.values, lr=1, momentum=c["momentum"], nesterov=c["nesterov"])], decays


def steps(c, values, gradients):
    model = Model(values)
    average = AveragedModel(model, avg_fn=get_ema_avg_fn(EMA))
    all_optimizers, decays = optimizers(c, model)
    history, averages = [], []
    for step, rate in enumerate(RATES):
        for p, g in zip(model.values, gradients):
            p.grad = torch.from_numpy(g[step].T.copy())
        if c["clipNorm"]:
            torch.nn.utils.clip_grad_norm_(model.values, c["clipNorm"])
        by_hand = c["name"] in ("sgd", "lars")
        with torch.no_grad():
            for i, (p, decay) in enumerate(zip(model.values, decays)):
                scale = TRUST * p.norm() / (p.grad.norm() + decay * p.norm() + EPSILON) if c["name"] == "lars" and p.ndim > 1 else 1
                if by_hand and not c["decoupled"]:
                    p.grad += decay * p
                p.grad *= scale
                if (by_hand and c["decoupled"]) or (c["name"] == "muon" and i not in HIDDEN):
                    p *= 1 - rate * decay
        for optimizer in all_optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
        average.update_parameters(model)
        flat = lambda m: np.concatenate([p.detach().numpy().T.ravel() for p in m.values])
        history.append(flat(model))
        averages.append(flat(average.module))
    return np.array(history), np.array(averages)


def case(name, momentum=0.9, nesterov=False, weightDecay=0.05, decoupled=False, exempt="none", clipNorm=0.0):
    c = {"name": name, "momentum": momentum, "nesterov": nesterov, "weightDecay": weightDecay, "decoupled": decoupled, "exempt": exempt, "clipNorm": clipNorm}
    random = np.random.default_rng(1)
    values = [random.normal(size=s).round(3) for s in SHAPES]
    gradients = [random.normal(size=(STEPS, *s)).round(3) for s in SHAPES]
    history, averages = steps(c, values, gradients)
    return {
        "options": c | {"beta2": BETA2, "epsilon": EPSILON, "trust": TRUST},
        "ema": EMA,
        "learningRates": RATES,
        "values": values,
        "gradients": gradients,
        "parameters": history,
        "averages": averages,
    }


cases = [
    case("sgd", exempt="norms-and-biases"),
    case("sgd", decoupled=True),
    case("sgd", nesterov=True, decoupled=True, exempt="norms-and-biases"),
    case("sgd", momentum=0.0, weightDecay=0.0, clipNorm=1.5),
    case("adamw"),
    case("adamw", exempt="norms-and-biases", clipNorm=2.0),
    case("lars"),
    case("lars", nesterov=True, decoupled=True, exempt="norms-and-biases"),
    case("muon"),
    case("muon", nesterov=True, momentum=0.6, exempt="norms-and-biases"),
]
golden_json.write(__file__, [np, torch], cases)
