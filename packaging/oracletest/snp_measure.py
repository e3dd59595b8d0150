"""Computes launch digests of SEV-SNP with virtee's sev-snp-measure, for the tests that compare it with our own
code: see snpmeasure.go. One JSON request a line is read, one JSON answer a line is written."""

import json
import sys

from sevsnpmeasure import guest, vcpu_types
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vmm_types import VMMType

VMMS = {"qemu": VMMType.QEMU, "ec2": VMMType.ec2, "gce": VMMType.gce}


def digest(r):
    signature = vcpu_types.CPU_SIGS[r["Model"]] if r["Model"] else 0
    return guest.calc_launch_digest(
        SevMode.SEV_SNP, r["VCPUs"], signature, r["Firmware"], r["Kernel"], r["Initrd"], r["Cmdline"], r["Features"], vmm_type=VMMS[r["VMM"]]).hex()


def answer(r):
    try:
        return {"Models": list(vcpu_types.CPU_SIGS)} if r["Names"] else {"Digest": digest(r)}
    except Exception as e:
        return {"Err": "%s: %s" % (type(e).__name__, e)}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
