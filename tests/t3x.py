import numpy as np
from harness.plugins import find_model
from harness.spec import Case, Scenario
from harness.checks import v08_head_answers
from harness.numerics import Examined
def go(backend, engine, model):
    out=[]
    module, offered = find_model(backend, model, ())
    for head in ("linear","mlp"):
        for precision in ("fp32","bf16"):
            case=Case(backend=backend,engine=engine,model=model,scenario=Scenario(name="n",explanation="",stages=()),dataset="",dataset_sha256="",image_size=64,head=head,precision=precision)
            r=module.decline(case)
            if r: out.append((head,precision,r)); continue
            s=module.open_session(case,offered,120)
            x=np.random.default_rng(0).standard_normal((8,64,64,3)).astype(np.float32)
            v08_head_answers(s,case,120,x)
            n=module.probe_numerics(s)
            out.append((head,precision,isinstance(module,Examined),n.product_bits,n.convolution_bits,n.flushes_denormals,s.effective().precision))
    return out
