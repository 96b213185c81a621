"""Image sizes that put the feature grids of a network exactly on each other."""


def padded_size_px(size_px: int, output_stride: int) -> int:
    """Returns the smallest k * output_stride + 1 that is at least `size_px` (321 and 513 are such sizes).

    At these sizes align-corners resizing maps grid points onto grid points (tensorflow/models issue 3886).
    """
    return (size_px + output_stride - 2) // output_stride * output_stride + 1
