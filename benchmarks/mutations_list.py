"""Faults that `mutations.py` plants in the core: each changes what an answer means, and none stops the code."""

from __future__ import annotations

from typing import NamedTuple

PARTS = "tests/suites/test_parts.py"
WHAT_IF = "tests/query/test_what_if.py"
EFFECTS = "tests/query/test_effect_columns.py"
JOINT = "tests/operators/test_joint_effects.py"
SECTIONS = "tests/operators/intervention/test_section_shifts.py"
KEPT = "tests/operators/test_fit_interventions.py"
SHIFT = "tests/operators/test_component_shift.py"
MESSAGES = "tests/operators/test_messages.py"
MEASUREMENTS = "tests/operators/test_measurements.py"
DISTRIBUTION = "tests/operators/test_distribution.py"
PLACES = "tests/training/test_places.py"
FIT = "tests/training/test_fit.py"
INTENSITY = "tests/operators/test_intensity.py"
TYPES = "tests/operators/test_types.py"


class Fault(NamedTuple):
    """A `text` of the code, what is `planted` in its place, and the tests that must notice."""

    name: str
    text: str
    planted: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "a node's own label is counted among those around it",
        "total.index_add(0, place, visible)[place] - visible",
        "total.index_add(0, place, visible)[place]",
        (TYPES,),
    ),
    Fault(
        "labels that were hidden are looked at",
        "visible = data.onehot * state.seen[self.key][:, None]",
        "visible = data.onehot",
        (TYPES,),
    ),
    Fault(
        "labels take part in every state",
        "            if not part.seen:\n                continue\n            precision",
        "            precision",
        (TYPES,),
    ),
    Fault(
        "rules for types are weighed on nodes they were fitted on",
        "[(half != one, half == one)",
        "[(half >= 0, half == one)",
        (TYPES,),
    ),
    Fault(
        "labels of hidden nodes stay where they are",
        "obs[names.LABEL].astype(object).where(~rows, None)",
        "obs[names.LABEL].astype(object)",
        (TYPES,),
    ),
    Fault(
        "a type is placed by its code alone, whoever is frequent",
        "(np.eye(len(share)) - share) @ axes[:, order]",
        "np.eye(len(share)) @ axes[:, order] * np.arange(1, 1 + len(order))",
        (TYPES,),
    ),
    Fault(
        "the objective scores molecules that were shown",
        "shown is None or shown.min() == 1 else 1 - shown",
        "shown is None or shown.min() == 1 else shown",
        (PARTS,),
    ),
    Fault(
        "the loss counts the halo",
        "node = counted[part.plan.level] * data.mask",
        "node = data.mask",
        (PARTS,),
    ),
    Fault(
        "the guard of no effect stands on the wrong side",
        "max(joint.evidence[column], gain) > least",
        "max(joint.evidence[column], gain) > -least",
        (KEPT,),
    ),
    Fault(
        "the jackknife takes the copy of the wrong donor",
        "of_donors = [0, 1, *(2 + donor for donor in self._donors())]",
        "of_donors = [0, 1, *(1 + donor for donor in self._donors())]",
        (WHAT_IF,),
    ),
    Fault(
        "the jackknife loses its √(n − 1)",
        "(len(left_out) - 1) * left_out.var(axis=0), np.full",
        "left_out.var(axis=0), np.full",
        (EFFECTS,),
    ),
    Fault(
        "the own share is swapped in the lateral mix",
        "self.share * context_known[:, None], (1 - self.share) * known[:, None]",
        "(1 - self.share) * context_known[:, None], self.share * known[:, None]",
        (MESSAGES,),
    ),
    Fault(
        "an expert's precision has the wrong sign",
        "precision = seen[:, None] * part.precision(data, shown)",
        "precision = seen[:, None] / part.precision(data, shown)",
        (PARTS,),
    ),
    Fault(
        "donors that trained and new ones are swapped",
        "*trained])]), -1, code)",
        "*trained])]), code, -1)",
        (PLACES,),
    ),
    Fault(
        "the standard error is added instead of taken off",
        "max(0.0, said_share - np.std(single, ddof=1)",
        "max(0.0, said_share + np.std(single, ddof=1)",
        ("tests/operators/test_neighbour_fit.py",),
    ),
    Fault(
        "onset is ignored when arms are compared",
        "return len({onset + duration for _, duration, onset in arm.values()}) < 2",
        "return len({duration for _, duration, onset in arm.values()}) < 2",
        ("tests/operators/test_intervention_plan.py",),
    ),
    Fault(
        "of reaches that tell equally well the last is taken",
        "likelihood.sum() / 2",
        "likelihood.sum() * 0.99",
        ("tests/operators/test_effect_rows.py",),
    ),
    Fault(
        "a predicted effect is as sure as if its kind were known",
        "(alike + own - known + mean**2)",
        "(alike + own - known)",
        (JOINT,),
    ),
    Fault(
        "what is not known of one molecule is known of the shares of others",
        "+ (share**2 * variance).sum(axis=1, keepdims=True)",
        "",
        (EFFECTS,),
    ),
    Fault(
        "an effect's error is not inflated where donors differ",
        'np.sqrt(times["departure"]) * counting',
        "counting",
        (JOINT,),
    ),
    Fault(
        "the jackknife of effects counts donors wrongly",
        "ratio = (n - 1) / n * ((left_out",
        "ratio = 1 / n * ((left_out",
        (JOINT,),
    ),
    Fault(
        "what whole sections err by is forgotten when components are shrunken together",
        "total = in_common[:, None] + alike",
        "total = 0 * in_common[:, None] + alike",
        (JOINT,),
    ),
    Fault(
        "what sections differ by is believed of each molecule by itself",
        "moderated_variance(squared / expected, df)[0] * expected",
        "squared",
        (SECTIONS,),
    ),
    Fault(
        "what sections err by is no error of the mean effect",
        "np.sqrt(mean_error**2 + in_common)",
        "mean_error",
        (SECTIONS,),
    ),
    Fault(
        "what sections err by is forgotten when effects are shrunken",
        'part.in_common[column] + (times["mean"] - 1)',
        '(times["mean"] - 1)',
        (SECTIONS,),
    ),
    Fault(
        "what a donor's components have in common tells of effects",
        "prior = of_donors * same + between * eye",
        "prior = 1e-9 * same + between * eye",
        (SECTIONS,),
    ),
    Fault(
        "every group has counts on top, however few it should have",
        "ON_TOP * total / np.bincount(",
        "ON_TOP + 0 * total / np.bincount(",
        ("tests/operators/test_effect_rows.py",),
    ),
    Fault(
        "between two doses the farther one weighs more",
        "share = -low / (high - low)",
        "share = high / (high - low)",
        ("tests/operators/intervention/test_condition_stack.py",),
    ),
    Fault(
        "variances are moderated without regard to the level of expression",
        "np.log(level)])",
        "0 * np.log(level)])",
        (EFFECTS,),
    ),
    Fault(
        "an effect is judged by donors that were not given it",
        "getattr(without[int(d)], name)",
        "getattr(without[int(d) - 1], name)",
        (JOINT,),
    ),
    Fault(
        "a component's departure is taken off its mean effect",
        "effect = self.mean[:, None] + self.departure",
        "effect = self.mean[:, None] - self.departure",
        (JOINT,),
    ),
    Fault(
        "an interaction acts where one part alone is",
        "(fields[a].strength * fields[b].strength)",
        "(fields[a].strength + fields[b].strength)",
        (SHIFT,),
    ),
    Fault(
        "dose and hours of full strength are swapped",
        "half, exponent, tau, full_dose, full_hours = course",
        "half, exponent, tau, full_hours, full_dose = course",
        (PARTS,),
    ),
    Fault(
        "what is lost inside a cell spreads, and nothing else does",
        "0.0 if INTERVENTION_KINDS[kind].inside and molecule in targets else 1.0",
        "1.0 if INTERVENTION_KINDS[kind].inside and molecule in targets else 0.0",
        (KEPT,),
    ),
    Fault(
        "a dose that was never trained is answered for",
        "supported[:] = False",
        "supported[:] = True",
        (WHAT_IF,),
    ),
    Fault(
        "hidden nodes are seen",
        "return mask * (1 - self.nodes[key]) if key in self.nodes else mask",
        "return mask",
        ("tests/model/test_tissue_model.py",),
    ),
    Fault(
        "hidden molecules are left out and not made up for",
        "return shown + weighed @ posterior @ others,",
        "return shown,",
        (MEASUREMENTS,),
    ),
    Fault(
        "fewer genes are known as surely as all",
        "found = [full / (1 + full * error) for error in errors]",
        "found = [full for error in errors]",
        ("tests/query/test_travel.py",),
    ),
    Fault(
        "what-ifs decode with the gates of states",
        "        with model.asked(RESPONSE):\n            decoder =",
        '        with model.asked("state"):\n            decoder =',
        ("tests/query/test_what_if.py",),
    ),
    Fault(
        "noisy features are trusted and sure ones are not",
        "torch.from_numpy(-np.log(error))",
        "torch.from_numpy(np.log(error))",
        (MEASUREMENTS,),
    ),
    Fault(
        "wide features are likelier than narrow ones",
        "-0.5 * away.square() - self.log_scale",
        "-0.5 * away.square() + self.log_scale",
        (DISTRIBUTION,),
    ),
    Fault(
        "gates open where held-out tissue loses",
        "if loss < best or (loss == best",
        "if loss > best or (loss == best",
        (FIT,),
    ),
    Fault(
        "the places that stop training also choose the gates",
        "turn = int(group == CHOOSING)",
        "turn = 0",
        (PLACES,),
    ),
    Fault(
        "the places that stop training are learnt from",
        "{LEARNING: range(2, 10)",
        "{LEARNING: range(0, 10)",
        (PLACES,),
    ),
    Fault(
        "a lift gives the parent the share of its children",
        "covered[:, None] * share * (lifted - parent)",
        "covered[:, None] * (1 - share) * (lifted - parent)",
        (MESSAGES,),
    ),
    Fault(
        "what showed before is forgotten on the way",
        "before - (called_for - before) * torch.expm1",
        "before - called_for * torch.expm1",
        (PARTS,),
    ),
    Fault(
        "a knock-out raises its gene",
        "InterventionKind(sign=-1.0, inside=True, saturates=False)",
        "InterventionKind(sign=1.0, inside=True, saturates=False)",
        ("tests/tissue/test_intervention.py",),
    ),
    Fault(
        "markers are as sure as if units were more",
        "df=n - 1, times=1 / n, n_units=n",
        "df=n - 1, times=1 / n**2, n_units=n",
        ("tests/query/test_markers.py",),
    ),
    Fault(
        "a stronger stain is taken for another state",
        "/ cofactor) - centre[section]) / spread[section]",
        "/ cofactor)) / spread[section]",
        (INTENSITY,),
    ),
    Fault(
        "intensities are told without their cofactor",
        "return torch.sinh(terms) * data.cofactor, terms",
        "return torch.sinh(terms), terms",
        (INTENSITY,),
    ),
    Fault(
        "heavy tails are chosen where held-out tissue has none",
        'if family == "student_t" or gain > WORTH',
        'if family == "student_t" or gain < WORTH',
        (INTENSITY,),
    ),
)
