"""PyTorch's contenders: the classes of transformers as their users train them.

sdpa attention, AdamW (fused where torch has it) without decay of biases and LayerNorm, clipped gradients, a linear schedule. For
bfloat16 the parameters stay float32 and the products are autocast, as ours are. Activations are ours, in torch's own form.
"""

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable
from typing import Any

from benchmarks.harness.cases import CLASSES, OPTIMIZER, STEPS, Batch, Case, make_batch
from benchmarks.harness.ours import BATCHES
from benchmarks.harness.turns import Contender, list_processors, read_resident, read_resident_peak
from research.models.architecture import Architecture

ACTIVATIONS = {'gelu': 'gelu', 'gelu_tanh': 'gelu_pytorch_tanh', 'relu': 'relu'}


def find_missing() -> str:
    """Which of torch and transformers is not installed; '' if both are."""
    return ' and '.join(name for name in ('torch', 'transformers') if importlib.util.find_spec(name) is None)


def load() -> tuple[Any, Any, str]:
    """(torch, transformers, the device), with as many threads as this process has processors."""
    torch: Any = importlib.import_module('torch')
    transformers: Any = importlib.import_module('transformers')
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger('torch.onnx').setLevel(logging.ERROR)
    torch.set_num_threads(len(list_processors(None)))
    torch.manual_seed(0)
    torch.set_float32_matmul_precision('high')  # TensorFloat32 on a GPU, which is jax's default too
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    torch.zeros(1, device=device)
    return torch, transformers, device


def make_model(transformers: Any, a: Architecture, kind: str, **options: Any) -> Any:
    """A randomly initialised model of the Auto class with the suffix `kind`, such as 'ForMaskedLM'; '' = the encoder."""
    activation = ACTIVATIONS[a.activation]
    if not a.types:
        config = transformers.DistilBertConfig(
            vocab_size=a.vocabulary,
            n_layers=a.layers,
            dim=a.width,
            n_heads=a.heads,
            hidden_dim=a.inner,
            dropout=a.dropout,
            attention_dropout=a.attention_dropout,
            activation=activation,
            seq_classif_dropout=a.head_dropout,
            num_labels=CLASSES,
        )
    else:
        shared = {'embedding_size': a.embedding, 'classifier_dropout_prob': a.head_dropout} if a.sharing == 'all' else {}
        name = 'AlbertConfig' if a.sharing == 'all' else 'BertConfig'
        config = getattr(transformers, name)(
            vocab_size=a.vocabulary,
            num_hidden_layers=a.layers,
            hidden_size=a.width,
            num_attention_heads=a.heads,
            intermediate_size=a.inner,
            hidden_act=activation,
            hidden_dropout_prob=a.dropout,
            num_labels=CLASSES,
            attention_probs_dropout_prob=a.attention_dropout,
            max_position_embeddings=a.positions,
            **shared,
        )
    return getattr(transformers, f'AutoModel{kind}').from_config(config, attn_implementation='sdpa', **options)


# ---- What is computed: the loss of a batch --------------------------------------------------------------------------------------


def make_pretraining(torch: Any, transformers: Any, case: Case, device: str) -> tuple[Any, Callable[[Any], Any]]:
    """MLM and the relation of two segments, by the model's own loss, with logits at all positions."""
    model = make_model(transformers, case.model, 'ForPreTraining').to(device)
    pair = 'sentence_order_label' if case.model.sharing == 'all' else 'next_sentence_label'
    return model, lambda batch: model(**batch['inputs'], labels=batch['labels'], **{pair: batch['pair']}).loss


def make_mlm(torch: Any, transformers: Any, case: Case, device: str) -> tuple[Any, Callable[[Any], Any]]:
    """MLM, by the model's own loss, with logits at all positions."""
    model = make_model(transformers, case.model, 'ForMaskedLM').to(device)
    return model, lambda batch: model(**batch['inputs'], labels=batch['labels']).loss


def make_masked(torch: Any, transformers: Any, case: Case, device: str) -> tuple[Any, Callable[[Any], Any]]:
    """MLM with logits at the masked positions alone, as nobody's own class does: equal work."""
    model = make_model(transformers, case.model, 'ForMaskedLM').to(device)

    def objective(batch: Any) -> Any:
        hidden = model.bert(**batch['inputs']).last_hidden_state
        at = batch['positions'][:, :, None].expand(-1, -1, hidden.shape[-1])
        logits = model.cls(hidden.gather(1, at))
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch['targets'].flatten())

    return model, objective


def make_label(torch: Any, transformers: Any, case: Case, device: str) -> tuple[Any, Callable[[Any], Any]]:
    """A label of the sequence, by the model's own loss."""
    model = make_model(transformers, case.model, 'ForSequenceClassification').to(device)
    return model, lambda batch: model(**batch['inputs'], labels=batch['label']).loss


def make_distillation(torch: Any, transformers: Any, case: Case, device: str) -> tuple[Any, Callable[[Any], Any]]:
    """DistilBERT's three losses as its authors' distiller.py computes them; logits and hidden states of all positions."""
    assert case.teacher is not None
    model = make_model(transformers, case.model, 'ForMaskedLM').to(device)
    teacher = make_model(transformers, case.teacher, 'ForMaskedLM').to(device).eval().requires_grad_(False)
    functional, losses = torch.nn.functional, case.losses
    heat = losses.soft.temperature

    def objective(batch: Any) -> Any:
        ids, types = batch['inputs']['input_ids'], batch['types']
        student = model.distilbert(input_ids=ids).last_hidden_state
        x = functional.gelu(model.vocab_transform(student))
        logits = model.vocab_projector(model.vocab_layer_norm(x))
        with torch.no_grad():
            hidden = teacher.bert(input_ids=ids, token_type_ids=types).last_hidden_state
            gold = teacher.cls(hidden)
        log_student = functional.log_softmax(logits.flatten(0, 1) / heat, -1)
        soft = functional.kl_div(log_student, functional.softmax(gold.flatten(0, 1) / heat, -1), reduction='batchmean') * heat**2
        mlm = functional.cross_entropy(logits.flatten(0, 1), batch['labels'].flatten())
        ones = torch.ones(student.shape[0] * student.shape[1], device=student.device)
        cosine = functional.cosine_embedding_loss(student.flatten(0, 1), hidden.flatten(0, 1), ones)
        return losses.soft.weight * soft + losses.mlm.weight * mlm + losses.cosine.weight * cosine

    return model, objective


OBJECTIVES: dict[str, Callable[[Any, Any, Case, str], tuple[Any, Callable[[Any], Any]]]] = {
    'pretraining': make_pretraining,
    'mlm': make_mlm,
    'masked': make_masked,
    'label': make_label,
    'distillation': make_distillation,
}


def count_logits(case: Case) -> tuple[int, int]:
    """(positions of a sequence with vocabulary logits of the student, of the teacher): all, where ours are the masked ones."""
    at = {'label': 0, 'masked': case.room}
    logits = at[case.peer] if case.peer in at else case.length
    return logits, case.length if case.teacher else 0


# ---- The contenders -------------------------------------------------------------------------------------------------------------


def convert(torch: Any, batch: Batch, case: Case) -> dict[str, Any]:
    """A batch as transformers' collators make it: labels are −100 where nothing is predicted. A full batch has no mask."""
    tensors = {name: torch.from_numpy(array) for name, array in batch.items()}
    inputs = {'input_ids': tensors['ids'].long()}
    if case.shortest < 1:
        inputs['attention_mask'] = tensors['mask'].long()
    types = tensors['types'].long()
    if case.model.types:
        inputs['token_type_ids'] = types
    if case.peer == 'label':
        return {'inputs': inputs, 'label': tensors['label'].long()}
    positions, targets = tensors['masked_positions'].long(), tensors['masked_labels'].long()
    found = {'inputs': inputs}
    if case.peer == 'masked':
        return found | {'positions': positions, 'targets': targets}
    labels = torch.full_like(inputs['input_ids'], -100).scatter(1, positions, targets)
    more = {'pretraining': {'pair': tensors['pair'].long()}, 'distillation': {'types': types}}
    return found | {'labels': labels} | (more[case.peer] if case.peer in more else {})


def move(tree: Any, device: str) -> Any:
    """A tree of tensors on the device."""
    if isinstance(tree, dict):
        return {name: move(part, device) for name, part in tree.items()}
    return tree.to(device, non_blocking=True)


def pin(tree: Any, device: str) -> Any:
    """A tree of tensors in memory that a GPU copies while it computes, as a DataLoader with pin_memory gives them."""
    if device == 'cpu':
        return tree
    return {name: pin(part, device) for name, part in tree.items()} if isinstance(tree, dict) else tree.pin_memory()


def make_optimizer(torch: Any, model: Any) -> Any:
    """AdamW without decay of biases and LayerNorm; fused where torch can."""
    plain, others = [], []
    for name, parameter in model.named_parameters():
        (plain if name.endswith('bias') or 'norm' in name.lower() else others).append(parameter)
    x = OPTIMIZER
    groups = [{'params': others, 'weight_decay': x.weight_decay}, {'params': plain, 'weight_decay': 0.0}]
    options = {'lr': x.lr, 'betas': (x.beta1, x.beta2), 'eps': x.epsilon}
    try:
        return torch.optim.AdamW(groups, fused=True, **options)
    except (RuntimeError, TypeError):
        return torch.optim.AdamW(groups, **options)


def step(case: Case, compiled: bool) -> Contender:
    """Training steps, eager or by torch.compile, on the random batches that ours get."""
    torch, transformers, device = load()
    before = read_resident()
    model, objective = OBJECTIVES[case.peer](torch, transformers, case, device)
    model.train()
    optimizer = make_optimizer(torch, model)
    warmup = round(OPTIMIZER.warmup * STEPS)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, warmup, STEPS)
    batches = [pin(convert(torch, make_batch(case, seed), case), device) for seed in range(BATCHES)]
    compute = torch.compile(objective) if compiled else objective
    is_half = case.model.dtype == 'bfloat16'
    count = [0]

    def run(steps: int) -> None:
        for _ in range(steps):
            batch = move(batches[count[0] % BATCHES], device)
            with torch.autocast(device, torch.bfloat16, enabled=is_half):
                loss = compute(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER.clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            count[0] += 1
        if device == 'cuda':
            torch.cuda.synchronize()

    def read_peak() -> int:
        return torch.cuda.max_memory_allocated() if device == 'cuda' else read_resident_peak() - before

    return Contender(run, read_peak)


def product(size: int, dtype: str) -> Contender:
    """Products of random [size, size] matrices, one after the other."""
    torch, _, device = load()
    kind = {'float32': torch.float32, 'bfloat16': torch.bfloat16}[dtype]
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    a, b = a.to(kind), (b / size**0.5).to(kind)

    def run(steps: int) -> None:
        found = a
        for _ in range(steps):
            found = found @ b
        if device == 'cuda':
            torch.cuda.synchronize()

    return Contender(run)


def choose_settings(folder: str) -> dict[str, str]:
    """Environment variables of a peer's process: compiled programs go to `folder`, empty at first, so that compilation is cold."""
    return {'TORCHINDUCTOR_CACHE_DIR': os.path.join(folder, 'inductor'), 'HF_HUB_OFFLINE': '1'}
