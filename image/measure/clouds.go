package measure

import (
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
)

// cloudGaps are what cannot be computed for a cloud, because its firmware is not published or changes without
// notice; none for a cloud that is not known. docs/clouds.md has a policy for each.
func cloudGaps(cloud string) []publication.Gap {
	gap := func(platform string, kind evidence.Kind, why, instead string, registers ...string) publication.Gap {
		return publication.Gap{Platform: platform, Kind: string(kind), Registers: registers, Why: why, Instead: instead}
	}
	const pcrs = "; the image is bound by the values of kind vtpm"
	switch cloud {
	case "gce":
		return []publication.Gap{
			gap("Google Compute Engine, SEV-SNP", evidence.KindSNP, "the firmware is Google's and is not published; Google signs the digests of each build",
				"Google's launch endorsement, read by anchorhold policy values extract"+pcrs+", which Google's vTPM certifies", evidence.RegisterLaunch),
			gap("Google Compute Engine, TDX", evidence.KindTDX, "the firmware is Google's and is not published; Google signs MRTD of each build",
				"Google's launch endorsement for MRTD; require.event_log.boot for the programs in RTMR1", "mrtd", "rtmr0", "rtmr1", "rtmr2"),
		}
	case "azure":
		return []publication.Gap{
			gap("Azure, SEV-SNP", evidence.KindAzureSNP, "the processor measures Microsoft's paravisor, which changes without notice and whose digests are in no list that is read here",
				"launch from guests that were looked at, beside pcr4 and pcr11 of the values of kind vtpm, in values of kind azure-sev-snp", evidence.RegisterLaunch),
			gap("Azure, TDX", evidence.KindAzureTDX, "the processor measures Microsoft's paravisor, which changes without notice and whose digests are in no list that is read here",
				"mrtd from guests that were looked at, beside pcr4 and pcr11 of the values of kind vtpm, in values of kind azure-tdx", "mrtd"),
		}
	case "aws":
		return []publication.Gap{
			gap("AWS, SEV-SNP", evidence.KindSNP, "the digest is of AWS's firmware, of which the source alone is published (aws/uefi)",
				"build it and describe it under sev_snp with vmm ec2; it covers the firmware, and no claim of SEV-SNP there binds the image", evidence.RegisterLaunch),
		}
	}
	return nil
}
