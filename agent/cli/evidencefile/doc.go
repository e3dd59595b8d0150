// Package evidencefile reads evidence from files, in whatever form a tool left it there, and tells by
// the bytes alone what they are.
//
// [Open] recognises our own envelopes and the answers of our local API, raw SEV-SNP reports, TDX
// quotes, reports of Azure's paravisor, dumps of configfs-tsm, the JSON of Trustee's attesters and
// of go-tpm-tools, event logs and reports of NVIDIA GPUs; beside them what helps to verify:
// certificates, revocation lists, Intel's documents, a directory that `anchorhold collateral` keeps.
// Text in hexadecimal or base64 is read as the bytes that it stands for.
//
// Nothing of it is verified here, and nothing is fetched: [Contents] says what lay in the files, and
// package evidencejudge what it is worth. Refused are unknown forms, files above [MaxFileBytes],
// names that appear twice in a JSON object, and two pieces of evidence at once. JSON members
// that are not read are named in [Evidence.Unread], never passed over in silence. The command line
// calls it.
package evidencefile
