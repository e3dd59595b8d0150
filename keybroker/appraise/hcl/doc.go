// Package hcl reads the report that the paravisor of an Azure confidential VM leaves in the VM's
// TPM, at index 0x01400001, and ties it to a verified report of the CPU.
//
// The container holds a report of the CPU (SEV-SNP or TDX) and runtime data: the public keys of
// the TPM and the VM's configuration. The CPU's REPORT_DATA is the hash of the runtime data, and
// so the CPU vouches for the TPM's attestation key. A broker's nonce is not in there; it is in the
// TPM's quote, which that key signs.
//
//	report, err := hcl.Parse(blob)                            // believes nothing yet
//	claims, err := verifier.Appraise(ctx, env, report.ReportData(), now) // of report.SNPReport()
//	runtime, err := report.ConfirmSNP(*claims.SNP)            // now there are a key and claims
//	// ... and verify the TPM's quote over the nonce with runtime.AK
//
// Nothing of the runtime data can be had before [Report.ConfirmSNP] or [Report.ConfirmTDX] was
// shown the claims of the CPU's report, verified by its own package, over exactly that data and,
// with SEV-SNP, from VMPL 0: a guest below a paravisor can ask the CPU for reports over data of
// its choice, but only from a lower privilege level. A TDREPORT is signed by nobody who can be
// asked from afar; every field that a quote signs is compared with it. The runtime data is as
// true as the paravisor, so a policy names the paravisor's measurement.
//
// Refused are unknown versions, kinds of report and hashes, bytes where there should be none,
// JSON with a name twice, keys other than RSA with 2048 bits. Members of the JSON that are not
// known are named in the claims. Only the broker calls it.
//
// Format: openvmm, openhcl_attestation_protocol, igvm_attest/get.rs (IgvmAttestRequestBase and
// RuntimeClaims), which Microsoft's page on the design of guest attestation for confidential VMs
// describes as well; Intel TDX Module ABI, TDREPORT_STRUCT.
package hcl
