"""Judges TDX quotes with Phala's dcap-qvl, for the tests that compare it with our own verifier: see
oracletest.go. One JSON request a line is read, one JSON answer a line is written."""

import base64
import json
import sys
import time

import dcap_qvl


def collateral(documents):
    def signed(text, member):
        # The signature is over the member's bytes exactly as they stand there.
        text = text.decode()
        start = text.index('"%s":' % member) + len(member) + 3
        body, end = json.JSONDecoder().raw_decode(text[start:].lstrip())
        start += len(text[start:]) - len(text[start:].lstrip())
        return text[start:start + end], bytes.fromhex(json.loads(text)["signature"])

    tcb_info, tcb_signature = signed(documents["TCBInfo"], "tcbInfo")
    identity, identity_signature = signed(documents["QEIdentity"], "enclaveIdentity")
    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=documents["PCKCRLChain"].decode(), root_ca_crl=documents["RootCRL"], pck_crl=documents["PCKCRL"],
        tcb_info_issuer_chain=documents["TCBInfoChain"].decode(), tcb_info=tcb_info, tcb_info_signature=tcb_signature,
        qe_identity_issuer_chain=documents["QEIdentityChain"].decode(), qe_identity=identity, qe_identity_signature=identity_signature)


def judge(request):
    quote = base64.b64decode(request["Quote"])
    c = collateral({k: base64.b64decode(v) for k, v in request["Documents"].items()})
    root = request["RootDER"] and base64.b64decode(request["RootDER"])

    def verify():
        if root:
            return dcap_qvl.verify_with_root_ca(quote, c, root, request["Unix"])
        return dcap_qvl.verify(quote, c, request["Unix"])

    return json.loads(verify().to_json()), cost(verify, request["Repeat"])


def cost(verify, repeat):
    """Nanoseconds of one call: the mean of so many, in the best of ten batches."""
    if not repeat:
        return 0
    best = None
    for _ in range(10):
        start = time.perf_counter_ns()
        for _ in range(repeat):
            verify()
        took = (time.perf_counter_ns() - start) // repeat
        best = took if best is None else min(best, took)
    return best


def answer(request):
    try:
        report, nanoseconds = judge(request)
    except BaseException as e:  # a panic of the library is no Exception
        return {"Err": "%s: %s" % (type(e).__name__, e)}
    return {"Status": report["status"], "Platform": report["platform_status"]["status"], "QE": report["qe_status"]["status"],
            "Advisories": report["advisory_ids"], "Nanoseconds": nanoseconds}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
