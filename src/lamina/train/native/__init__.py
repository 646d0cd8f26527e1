"""Training steps as small native programs.

A step of a tiny network is a few microseconds of arithmetic inside hundreds of microseconds of Python and dispatch. Here
the whole step (gather, preprocessing, forward, backward, clipping, optimizer, EMA) is traced once, lowered to loops over
sizes known at compile time and compiled by the machine's C++ compiler into one function that runs any number of steps.

    tracing.py    a function of tensors -> a graph of functional ATen operations
    nodes.py      what a graph is lowered to: lazy values, affine indexing
    operations.py the ATen operations that can be lowered, one rule each
    program.py    which values are stored, which loops are shared, which memory is reused
    source.py     the program as C++ (prelude.hpp: matrix products, helpers)
    toolchain.py  finding, running and trusting the compiler
"""
