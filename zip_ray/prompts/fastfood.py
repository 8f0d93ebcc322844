"""Fastfood: a structured random map that approximately preserves norms (Le, Sarlos, Smola, ICML 2013)."""

import numpy as np

from zip_ray.protocol.arrays import Float64


def hadamard_transform(x: Float64) -> Float64:
    """Unnormalised Walsh-Hadamard transform along the first axis, in Sylvester's order.

    Args:
        x: shape (n, ...), n a power of two.

    Returns:
        H x, same shape; H is symmetric with entries +-1 and H H = n I.
    """
    n = x.shape[0]
    y = x.astype(np.float64, copy=True)
    half = 1
    while half < n:
        blocks = y.reshape(n // (2 * half), 2, half, *y.shape[1:])
        upper, lower = blocks[:, 0].copy(), blocks[:, 1].copy()
        blocks[:, 0] = upper + lower
        blocks[:, 1] = upper - lower
        half *= 2
    return y


def fastfood_matrix(rng: np.random.Generator, width: int, size: int) -> Float64:
    """The Fastfood map of one token as a dense matrix (Park et al., ICLR 2025, released code).

    Zero-pad to n = the next power of two >= width; multiply by random signs B; transform; permute, y_j = x[Pi(j)];
    multiply by G ~ N(0, 1)^n; transform; keep the first `width`; divide by sqrt(n sum G^2) sqrt(width / n).
    The map is linear, so its matrix is those steps applied to the identity, once per run.

    Args:
        rng: draws B, Pi and G, in this order.
        width: length of the output, D.
        size: length of the input, p <= n.

    Returns:
        Matrix of shape (width, size).
    """
    n = 1 << (width - 1).bit_length()
    if size > n:
        raise ValueError(f"size {size} exceeds the padded width {n}")
    signs = rng.choice(np.array([-1.0, 1.0]), size=n)
    order = rng.permutation(n)
    gauss = rng.standard_normal(n)
    columns = hadamard_transform(np.eye(n, size) * signs[:, None])[order]
    columns = hadamard_transform(columns * gauss[:, None])[:width]
    matrix: Float64 = columns / (np.sqrt(n * np.sum(gauss**2)) * np.sqrt(width / n))
    return matrix
