"""Build the one extension module of this distribution."""

from glob import glob

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "raytrade_native",
            sorted(glob("src/*.c")),
            depends=["src/native.h"],
            extra_compile_args=["-std=c11", "-Wall", "-Wextra", "-Wno-unused-parameter"],
        )
    ]
)
