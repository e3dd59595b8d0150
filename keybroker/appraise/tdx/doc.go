// Package tdx verifies quotes of Intel TDX guests and says how current their platform is.
//
// A [Quote] is parsed once, a [Collateral] (Intel's TCB info, the quoting enclave's identity and
// the revocation lists) is verified once and serves any number of quotes, and [Verifier.Verify]
// brings the two together:
//
//	quote, err := tdx.Parse(raw)
//	claims, err := verifier.Verify(quote, collateral, reportData, now)
//
// Every claim it returns was signed by an attestation key that the quoting enclave (QE) vouched
// for, whose own report was signed by a platform key (PCK), whose certificate chain ends at the
// Intel SGX root key that is pinned here. REPORT_DATA is the value asked for, nothing in the chain
// is expired or revoked at the time given, each document of the collateral is inside its own
// window, and the QE and the TDX module are those that Intel's documents name.
//
// What is true but unwanted is a claim, for the policy to judge: debug, an attribute or feature
// of the guest, and the TCB status, whatever it is. "No level of Intel's list matches" is the
// status [evidence.TCBUnmatched], not an error. Unknown versions, types, algorithms and sizes are
// refused, each with a reason of its own. So are reserved bytes that are not zero.
//
// It trusts the pinned key and the caller's clock, and fetches nothing: nothing that a quote says
// chooses a URL or a root. Certificates of the quote are only as good as their chain. The broker
// calls it.
//
// Formats and rules: Intel TDX DCAP Quoting Library API, appendix "Quote Format" (versions 4 and
// 5; the extended TD 1.5 report is sgx_report2_body_v1_5_ex_t of sgx_quote_5.h); Intel SGX PCK
// Certificate and CRL Profile Specification; Intel PCS API version 4, "Get TDX TCB Info" and "Get
// TDX QE Identity"; and, for the TCB, Intel's Quote Verification Library (QVL),
// Verifiers/Checks/EvaluateTcb.cpp and TDRelaunchCheck.cpp.
package tdx
