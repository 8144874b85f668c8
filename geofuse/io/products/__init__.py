"""Products as their agencies publish them: one module each, found by :mod:`geofuse.io.products.detect`.

A module has ``TITLE`` (what ``geofuse info`` calls the product), ``matches(path) -> bool`` (by name and layout alone, nothing heavy
imported) and ``open_product(path, *, chunks=None) -> xarray.DataArray`` (with ``mask_clouds=True`` where the product
brings a layer of clouds): a lazy scene with the attributes of
:func:`geofuse.io.open_scene` and ``product`` (the title), ``notes`` (a list of what a user should know, one line each), ``files``
(a list of the files that it is read from) and, where its metadata contradict each other, ``conflict`` (a sentence).
"""
