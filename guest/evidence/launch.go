package evidence

// Where a report or quote holds the measurement of the launch: MEASUREMENT (SEV-SNP ABI
// specification, table "ATTESTATION_REPORT structure"); MRTD in the body, behind the header of
// 48 bytes and, in version 5, the body's type and size (Intel TDX DCAP Quoting Library API).
const (
	snpMeasurement   = 0x90
	tdxMRTD          = 48 + 136
	tdxMRTDv5        = tdxMRTD + 6
	measurementBytes = 48
)

// LaunchMeasurement is what the evidence says of its guest's launch: MEASUREMENT of SEV-SNP, MRTD of
// TDX, under Azure that of the paravisor; nil if its kind has none. It verifies nothing: it is for
// a guest that reads its own evidence, and for people who look at it.
func (e Envelope) LaunchMeasurement() []byte {
	report, at := e.Part(PartTDXQuote), 0
	switch {
	case e.Kind == KindSNP:
		report, at = e.Primary(), snpMeasurement
	case e.Kind == KindAzureSNP:
		report, at = e.Part(PartHCLReport), hclHeader+snpMeasurement
	case len(report) > 1 && report[0] == 4 && report[1] == 0:
		at = tdxMRTD
	case len(report) > 1 && report[0] == 5 && report[1] == 0:
		at = tdxMRTDv5
	default:
		return nil
	}
	if len(report) < at+measurementBytes {
		return nil
	}
	return report[at : at+measurementBytes]
}
