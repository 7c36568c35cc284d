"""Coverage of compositional training sets, and what Transformers make of it.

The library behind every command of this repository, one wing a stage:

``tasks``      task graphs as data (twohop, threehop, ...): the single definition of each task
``data``       vocabulary, data-set files, exact uniform sampling of compositions
``coverage``   functional k-equivalence, the substitution graph, k-cutoffs
``circuits``   hidden states, counterfactuals, activation patching, cosine clustering
``reporting``  figures and HTML; nothing below it draws

Importing a wing imports what it needs and no more: ``data`` and ``coverage`` never load torch.
"""

__version__ = "0.1.0"
