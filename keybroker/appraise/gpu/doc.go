// Package gpu verifies attestation reports of NVIDIA GPUs in confidential computing mode, Hopper
// and Blackwell.
//
// A report is an SPDM 1.1 request for measurements, which carries the broker's nonce, and the
// device's signed response. The package guarantees that the response was signed by the key of a
// certificate chain of five that ends at NVIDIA's Device Identity CA, pinned by its public key;
// that the chain is a GPU's (switches and network adapters have chains under the same root); that
// all of it was valid at the time given; that the nonce is the one asked for, compared in
// constant time; and that the firmware which holds the key is the one that both certificate and
// report name. It trusts that root and the caller's clock. It refuses what it does not know:
// versions, types of measurements and of opaque data, chips, other numbers of certificates.
//
// It does not ask whether a certificate was revoked (NVIDIA's lists and OCSP), and does not
// compare measurements with reference values (NVIDIA's RIMs): claims say the first
// ([evidence.GPUClaims].RevocationChecked), and carry the measurements for the second.
//
// A report says nothing about the guest beside the device. Whoever binds both gives the device a
// nonce that the CPU's report covers. Several reports are of several devices only if
// [Verifier.AppraiseAll] says so. Only the broker calls this package.
//
// Formats: DMTF DSP0274 (SPDM) 1.1, GET_MEASUREMENTS and MEASUREMENTS; NVIDIA/nvtrust for the
// opaque data, the names in certificates and where the FWID is; TCG DICE Attestation
// Architecture 1.1, DiceTcbInfo.
package gpu
