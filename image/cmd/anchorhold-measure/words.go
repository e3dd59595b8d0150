package main

// The words of the program and of "show".
const (
	measureUse   = "anchorhold-measure --platform FILE [--key FILE --out FILE]"
	measureShort = "Compute what guests of an image will measure"
	measureLong  = `Computes the reference values of an image before any guest of it runs: the launch digest of
SEV-SNP, MRTD and RTMRs of TDX, and the PCRs of a TPM. --platform describes image and machines
(docs/measure.md); --uki names the image in its place. Each register is marked with what it was
checked against, and what cannot be computed is listed with the claim that replaces it.

With --key and --out the values are signed as the image's publisher. A broker's operator reads
the file with 'anchorhold policy values import FILE --signer publisher.key.pub'.

--booted compares with a guest of the image: a JSON object of registers that it quoted, such as
{"pcr4": "...", "pcr11": "..."}, which 'anchorhold evidence verify FILE --registers quoted.json'
writes. Values that it confirms are marked "boot"; if it confirms none, nothing is signed.

Exit status: 0 done, 1 failed, 2 wrong command line, 3 refused or cannot be computed.`
	measureExample = `  anchorhold-measure --platform platform.yaml --uki web-7.efi
  anchorhold-measure --platform platform.yaml --uki web-7.efi --key publisher.key --credential-file publisher.kek --out web-7.values
  anchorhold-measure --platform platform.yaml --booted quoted.json --booted-kind vtpm --json`

	flagPlatform   = "the description of image and machines"
	flagUKI        = "the unified kernel image, in place of the description's"
	flagKey        = "the publisher's key file, to sign"
	flagOut        = "the new file for the signed values"
	flagMade       = "the time that the file states, RFC 3339 (default now)"
	flagBooted     = "registers that a guest of the image quoted, in JSON"
	flagBootedKind = "the kind of evidence that --booted was quoted in"

	needsBoth     = "--key and --out go together: sign into a new file, or print alone"
	badBooted     = "--booted: %s: want a JSON object of registers in hexadecimal, such as {\"pcr4\": \"...\"}: %w"
	signedText    = "signed    %s, by publisher %s\nvalues    %d, gaps %d\nread with anchorhold policy values import %s --signer %s\n"
	valueText     = "%s\n  kind      %s, covers %s\n  platform  %s\n"
	registerText  = "  %-9s %s  (%s)\n"
	gapText       = "NO VALUE of %s: %s\n  because   %s\n  instead   %s\n"
	verifiedText  = "verified  %s, of %s, by publisher %s\n"
	inputText     = "input     %s, %d bytes, sha256 %s\n"
	weakText      = "WARNING: under values that cover the firmware alone any image starts: %s\n"
	measureNeeds  = "one file that anchorhold-measure signed"
	showUse       = "show FILE"
	showShort     = "Verify a signed file of values and print it"
	showExample   = "  anchorhold-measure show web-7.values --signer publisher.key.pub"
	flagSigner    = "the publisher's public key, as text or in a file"
	showLong      = "Verifies that the publisher signed the file, and prints its values and gaps. Get the public key from\na source other than the file."
	maxBootedText = 64 << 10
)
