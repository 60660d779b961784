"""Small words of the page, and plain names for identifiers."""

from __future__ import annotations

PLAIN = {
    # tasks
    "context_to_expression": "expression from surroundings",
    "image_to_composition": "composition from the image",
    "image_to_expression": "expression from the image",
    "image_to_niche": "niche from the image",
    "spot_to_composition": "composition of spots",
    "spot_to_hidden_molecules": "half of a spot's molecules from its composition",
    "context_distribution": "distribution of expression from surroundings",
    "response": "response to intervention",
    "conditions": "response of a screen",
    "endpoint": "donor trait from niches",
    # metrics
    "ari": "agreement with true regions (adjusted Rand index)",
    "called_direction": "direction of called genes",
    "called_sets": "overlap of called genes",
    "called_size": "effect size of called genes",
    "centroid_accuracy": "conditions told apart",
    "coverage": "truth inside the interval",
    "covet_distance": "error in neighbourhood covariance",
    "crps": "error of the distribution (CRPS)",
    "des_overlap": "overlap of differential genes",
    "direction_fidelity": "direction of differential genes",
    "effect_sign": "sign of the effect",
    "energy_distance": "distance between cell populations",
    "foscttm": "closer cells than the true match (FOSCTTM)",
    "jsd": "distance between compositions (Jensen–Shannon)",
    "macro_f1": "classification (macro F1)",
    "pearson_by_gene": "correlation, gene by gene",
    "pearson_by_pathway": "correlation, pathway by pathway",
    "pearson_delta": "correlation of effects",
    "pearson_delta_profile": "correlation of effects over distance",
    "pit_chi_square": "calibration of the distribution",
    "r2_weighted": "variance explained (weighted R²)",
    "registration_um": "registration error [µm]",
    "rmse": "error (RMSE)",
    "rmse_delta": "error in effects (RMSE)",
    "rmse_effect": "error in effects (RMSE)",
    "rmse_log": "error in log expression (RMSE)",
    "rmse_shares": "error in shares (RMSE)",
    "winkler_90": "width and misses of 90 % intervals (Winkler)",
    "worst_group_coverage": "truth inside the interval, worst group",
    # predictors
    "climatology": "distribution in training",
    "context_mean": "mean of the section",
    "global_mean": "mean of training tissue",
    "nnls": "non-negative least squares",
    "own_mixture": "mixture on own state",
    "neighbour_mean_mixture": "mixture on the mean of neighbours",
    "split_half": "split-half repeat",
}


def plural(n: int, word: str) -> str:
    """Return `word` in the number that goes with `n`."""
    return word if n == 1 else f"{word}{'es' if word.endswith('ch') else 's'}"


def words(name: str) -> str:
    """Return an identifier as words: its plain name, or else ``kernel_ridge`` is read as "kernel ridge"."""
    return PLAIN.get(name, name.replace("_", " "))
