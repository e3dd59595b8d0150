// Package intel fetches what Intel's provisioning certification service, or a caching service of
// the operator's (PCCS), hands out for verifiers of TDX quotes: TCB information of a platform,
// identity of the TD quoting enclave, revocation lists of the PCK authority and of the root, and
// the chains that sign them.
//
// The documents stay as they were served, because their signatures are over their bytes; revocation
// lists become DER, and chains lose the URL escapes of the header in which they came. A
// [collateral.TDXCheck] verifies them, and without one nothing is accepted; [Check] is the one by
// Intel's pinned root.
//
// Format of requests: Intel SGX and Intel TDX Provisioning Certification Service API, version 4;
// SGX/TDX PCCS design guide.
package intel
