package evidencelook

// next says for a refusal that is about what was given, and not about the guest, what to give.
var next = map[string]string{
	"certificate-missing": "give the chip's certificate and those of AMD's authorities as further files, or with --collateral; " +
		"'anchorhold collateral fetch' gets them (--product, and --chips for the chip's own)",
	"revocation-unknown": "give AMD's revocation list as a further file, or with --collateral ('anchorhold collateral fetch --product' gets it); " +
		"--at judges at a time at which a list of then holds, --without-revocation does without one",
	"tdx-collateral-missing": "give Intel's documents of this FMSPC and authority as further files, or with --collateral ('anchorhold collateral fetch --fmspc --ca' gets them)",
	"tdx-collateral-expired": "renew the documents ('anchorhold collateral fetch'); --at judges at a time at which they held",
	"evidence-kind-not-configured": "say which key of a TPM you believe: --enrolled-ak NAME, which 'anchorhold-agent check' prints in the guest; " +
		"--without-revocation believes keys that Google certified",
	"tpm-key-untrusted": "say which key of a TPM you believe: --enrolled-ak NAME, which 'anchorhold-agent check' prints in the guest",
}
